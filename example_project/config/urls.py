from django.urls import include, path

urlpatterns = [path("", include("visits.urls"))]
