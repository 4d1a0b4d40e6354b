"""What agents and entry points share; knows no agent."""
