"""PostgreSQL: the only room that speaks to the driver."""
