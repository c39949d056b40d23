"""One HTTP request to Cal.com, and what came back, believed or not."""
