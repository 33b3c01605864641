"""From a question to rows: conditions, the database that answers, and where its files lie."""
