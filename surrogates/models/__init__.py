"""Forward models: what would this perturbation do?"""
