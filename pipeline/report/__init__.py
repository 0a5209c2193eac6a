"""What a line did, for people: the report (one HTML file a run) and the model's card."""
