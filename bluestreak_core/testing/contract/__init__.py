"""The Store protocol as test suites."""
