"""Scripts that others have written, told to Linux and to the model.

They are not the project's, and are read where they are.
"""
