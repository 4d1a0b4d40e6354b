"""From rows of runs to tables, figures and pages."""
