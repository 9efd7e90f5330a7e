"""What the exact form of φ changes: four measurements, and the page that is made of them."""
