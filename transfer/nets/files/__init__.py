"""Files of nets and weights: what they hold, checked before Keras reads them."""
