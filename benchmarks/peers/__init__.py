"""Tools of others, each as its documentation would have it used, in an environment of its own."""
