"""Every sentence that readers of the figures, the report and the explorer are shown."""
