"""The experiments of the SeGMA paper: training runs, their evaluation, and the resulting tables and figures."""
