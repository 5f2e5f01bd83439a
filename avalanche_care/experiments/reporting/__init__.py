"""From result files to tables: collecting runs, comparing them, writing what a reader sees."""
