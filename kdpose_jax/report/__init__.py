"""What a run leaves for people to read: results file, tables and figures. Knows no poses."""
