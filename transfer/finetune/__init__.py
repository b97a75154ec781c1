"""Fine-tuning that starts where the cache ends: the frozen part of a net is never computed twice.

`cutting` finds where the net is cut, `recipe` says how it is trained, `network` is what is left of it, with a
classifier, `tuner` trains that step by step, on rows of the cache or on `pixels`, of which `augmenting` makes views, on
one device or, by `devices`, several, `checkpoint` keeps what is needed to go on after an interruption, and `keeping`
the net at the end.
"""
