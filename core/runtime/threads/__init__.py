"""Threads: prefetching, sharing a stream among workers, the threads of torch."""
