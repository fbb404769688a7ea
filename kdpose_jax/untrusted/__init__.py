"""Reads files that users hand us, without running code from them.

No reader takes more memory than `bounds` says. The room imports only `errors`.
"""
