"""Keypoints in COCO's JSON format."""
