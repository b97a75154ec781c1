"""Fine-tuning that starts where the cache ends: the frozen part of a net is never computed twice.

`cut_choice` finds where the net is cut, and `recipe` holds the numbers that training depends on. `network` is the
trained part of the net with a classifier, and `tuner` trains it step by step, for as many epochs as `held_out` images
say: on rows of the cache, or on `pixel_rows`, of which `augment_layer` makes views; on one device or, by `devices`, on
several. `checkpoint` keeps what is needed to go on after an interruption, `tensorboard` writes logs, and `saved_net`
keeps the net at the end.
"""
