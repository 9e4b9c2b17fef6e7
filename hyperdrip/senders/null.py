"""The null sender: throws messages away without a word, for benchmarks."""

from hyperdrip.senders.console import ConsoleSender


class NullSender(ConsoleSender):
    """As the console sender, and the log lines of single messages are left out."""

    name = "null"
    is_quiet = True
