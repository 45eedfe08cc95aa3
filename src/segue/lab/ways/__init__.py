"""The ways to empty a listener whose worker is to end, each as steps over one interface."""
