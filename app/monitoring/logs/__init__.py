"""The parts of a log line: processors, levels, JSON, console, and the writer that never blocks."""
