"""What made `demo.gguf`: tokenizer, network, optimizer, loop and export. Needs the extra `train`."""
