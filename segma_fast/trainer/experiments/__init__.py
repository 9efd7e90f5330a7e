"""The experiments of the SeGMA paper: what is trained, how it is judged, and the tables and figures it ends in."""
