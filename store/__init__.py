"""What the service remembers: rows, folders, the bell and the settings. It knows no torch, HTTP or page."""
