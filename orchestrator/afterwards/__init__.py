"""What happens to a run after its launch: export, prediction, reproduction, cleaning."""
