"""Tables in Parquet files, and folders of them as the Hugging Face hub has them."""
