"""Ridge regression, its strength chosen by leave-one-out errors in closed form."""
