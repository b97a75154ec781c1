"""What `train_head`, `sweep` and `fine_tune` share: labels, readouts, copies and the options of protocols."""
