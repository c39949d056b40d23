"""What comes round: polls, looks at our webhook, sweeps; and the loading of a company's past."""
