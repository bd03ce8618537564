"""The shell of the app and its Compare and Train tabs: the only part of `grounding` that imports gradio."""
