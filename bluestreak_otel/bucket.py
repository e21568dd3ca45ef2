"""The buckets of histograms."""

SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0, 3600.0),
)
"""For durations: OpenTelemetry's own are for milliseconds."""
