"""The nouns: whatever outlives a process. msgspec only; nothing here acts."""
