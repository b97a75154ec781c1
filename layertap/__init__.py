"""Layertap: features of pretrained vision nets, computed once and kept, and heads trained on them."""
