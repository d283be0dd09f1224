"""How it runs on R ranks: plan, train, checkpoint, evaluate, score, embed, and the command line."""
