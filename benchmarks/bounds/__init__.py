"""Do stated bounds hold, of whom, and what do they cost?"""
