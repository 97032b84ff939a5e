"""The app needs gradio and is tested as a process of its own: nothing here is a test module."""

collect_ignore = ["app.py"]
