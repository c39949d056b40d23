"""The toy town: broker, database and mail sink from wheels, all services in one process, and the demo."""
