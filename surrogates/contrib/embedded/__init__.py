"""Models of effects that predict interventions from what is known of them: graphs and tables of embeddings."""
