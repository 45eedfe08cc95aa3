"""Pages of the site and man pages that are made from the code, so never out of date."""
