"""Register-level models of chips, written from their data sheets and from no driver."""
