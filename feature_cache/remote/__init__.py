"""What is elsewhere, under a URL: servers as they are asked, and caches in a bucket."""
