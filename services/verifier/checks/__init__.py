"""One question about one record: leased, asked, judged, told."""
