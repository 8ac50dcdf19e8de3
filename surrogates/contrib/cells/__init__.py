"""Models that turn control cells into treated ones."""
