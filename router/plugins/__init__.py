"""What is done to statements besides routing them: the [plugins] sections."""
