"""Official files of benchmarks, whatever is in them: fetched, unpacked, looked at, and read as data."""
