"""How it is launched: TorchX components. Imports torchx only."""
