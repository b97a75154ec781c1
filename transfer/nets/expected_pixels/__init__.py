"""Which pixels the net of a file expects, by its layers alone: `expected` says it, and how it knows.

`graph` lists the layers of a net's configuration, `scaling` follows the arithmetic that a net begins with, and
`known_nets` recognises the nets of ``keras.applications``. Keras is not imported.
"""
