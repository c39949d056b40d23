"""The verifier: asks Cal.com's API, and tells on `calcom.bookings.v1` what it said. It changes no record itself."""
