"""What lies on disk: run directories whose steps are recorded, sealed and safe to kill."""
