"""The Pareto front of a sweep: aggregates, objectives, members, files, pages, export."""
