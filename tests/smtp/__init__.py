"""Mail, against real servers on loopback: scripted ones, and aiosmtpd."""
