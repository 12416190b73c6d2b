"""What people and programs speak to: each face asks for a clip and shows what comes of it. None samples."""
