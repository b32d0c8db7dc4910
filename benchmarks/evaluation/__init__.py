"""`make eval`: how well tasks are told and rows are routed, on the data that is shipped and on a folder of more."""
